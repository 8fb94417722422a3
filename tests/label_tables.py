"""The data sets' published label tables, row by row, with what each row becomes; ``-`` is ignored."""

# Cityscapes' 19 evaluated classes: train id, name, colour; the train id under 16, 13 (and CrossCity's), 7, 7-nature and
# 10.
TRAIN_IDS = """
 0 road           128  64 128    0  0  0  0  0
 1 sidewalk       244  35 232    1  1  0  0  1
 2 building        70  70  70    2  2  1  1  2
 3 wall           102 102 156    3  -  1  1  3
 4 fence          190 153 153    4  -  1  1  3
 5 pole           153 153 153    5  -  2  2  4
 6 traffic_light  250 170  30    6  3  2  2  5
 7 traffic_sign   220 220   0    7  4  2  2  5
 8 vegetation     107 142  35    8  5  3  3  6
 9 terrain        152 251 152    -  -  0  3  -
10 sky             70 130 180    9  6  4  4  7
11 person         220  20  60   10  7  5  5  8
12 rider          255   0   0   11  8  5  5  -
13 car              0   0 142   12  9  6  6  9
14 truck            0   0  70    -  -  6  6  -
15 bus              0  60 100   13 10  6  6  -
16 train            0  80 100    -  -  6  6  -
17 motorcycle       0   0 230   14 11  6  6  -
18 bicycle        119  11  32   15 12  6  6  -
"""

# Stored id (-1 is stored as 255), name, train id of the 19. The seven groups follow from it.
CITYSCAPES = """
  0 unlabeled              -
  1 ego_vehicle            -
  2 rectification_border   -
  3 out_of_roi             -
  4 static                 -
  5 dynamic                -
  6 ground                 -
  7 road                   0
  8 sidewalk               1
  9 parking                -
 10 rail_track             -
 11 building               2
 12 wall                   3
 13 fence                  4
 14 guard_rail             -
 15 bridge                 -
 16 tunnel                 -
 17 pole                   5
 18 polegroup              -
 19 traffic_light          6
 20 traffic_sign           7
 21 vegetation             8
 22 terrain                9
 23 sky                    10
 24 person                 11
 25 rider                  12
 26 car                    13
 27 truck                  14
 28 bus                    15
 29 caravan                -
 30 trailer                -
 31 train                  16
 32 motorcycle             17
 33 bicycle                18
 -1 license_plate          -
"""

SYNTHIA = """
  0 void                   -
  1 sky                    10
  2 building               2
  3 road                   0
  4 sidewalk               1
  5 fence                  4
  6 vegetation             8
  7 pole                   5
  8 car                    13
  9 traffic_sign           7
 10 pedestrian             11
 11 bicycle                18
 12 motorcycle             17
 13 parking_slot           -
 14 road_work              -
 15 traffic_light          6
 16 terrain                9
 17 rider                  12
 18 truck                  14
 19 bus                    15
 20 train                  16
 21 wall                   3
 22 lane_marking           -
"""

# CamVid in SegNet's encoding: id, name, class of the 10, group of the 7.
CAMVID = """
  0 sky          7 4
  1 building     2 1
  2 pole         4 2
  3 road         0 0
  4 pavement     1 0
  5 tree         6 3
  6 sign         5 2
  7 fence        3 1
  8 car          9 6
  9 pedestrian   8 5
 10 bicyclist    - -
 11 void         - -
"""

# Mapillary Vistas 1.2: id, dotted name | readable name | group of the 7 (ESL's) | train id of the 19.
VISTAS_1 = """
0 animal--bird | Bird | - | -
1 animal--ground-animal | Ground Animal | - | -
2 construction--barrier--curb | Curb | construction | 1
3 construction--barrier--fence | Fence | construction | 4
4 construction--barrier--guard-rail | Guard Rail | construction | -
5 construction--barrier--other-barrier | Barrier | construction | -
6 construction--barrier--wall | Wall | construction | 3
7 construction--flat--bike-lane | Bike Lane | flat | 0
8 construction--flat--crosswalk-plain | Crosswalk - Plain | flat | 0
9 construction--flat--curb-cut | Curb Cut | flat | 1
10 construction--flat--parking | Parking | flat | -
11 construction--flat--pedestrian-area | Pedestrian Area | flat | 1
12 construction--flat--rail-track | Rail Track | flat | -
13 construction--flat--road | Road | flat | 0
14 construction--flat--service-lane | Service Lane | flat | 0
15 construction--flat--sidewalk | Sidewalk | flat | 1
16 construction--structure--bridge | Bridge | construction | -
17 construction--structure--building | Building | construction | 2
18 construction--structure--tunnel | Tunnel | construction | -
19 human--person | Person | human | 11
20 human--rider--bicyclist | Bicyclist | human | 12
21 human--rider--motorcyclist | Motorcyclist | human | 12
22 human--rider--other-rider | Other Rider | human | 12
23 marking--crosswalk-zebra | Lane Marking - Crosswalk | flat | 0
24 marking--general | Lane Marking - General | flat | 0
25 nature--mountain | Mountain | - | -
26 nature--sand | Sand | - | -
27 nature--sky | Sky | sky | 10
28 nature--snow | Snow | - | -
29 nature--terrain | Terrain | flat | 9
30 nature--vegetation | Vegetation | nature | 8
31 nature--water | Water | - | -
32 object--banner | Banner | - | -
33 object--bench | Bench | - | -
34 object--bike-rack | Bike Rack | - | -
35 object--billboard | Billboard | - | -
36 object--catch-basin | Catch Basin | - | -
37 object--cctv-camera | CCTV Camera | - | -
38 object--fire-hydrant | Fire Hydrant | - | -
39 object--junction-box | Junction Box | - | -
40 object--mailbox | Mailbox | - | -
41 object--manhole | Manhole | - | -
42 object--phone-booth | Phone Booth | - | -
43 object--pothole | Pothole | object | -
44 object--street-light | Street Light | object | -
45 object--support--pole | Pole | object | 5
46 object--support--traffic-sign-frame | Traffic Sign Frame | object | -
47 object--support--utility-pole | Utility Pole | object | 5
48 object--traffic-light | Traffic Light | object | 6
49 object--traffic-sign--back | Traffic Sign (Back) | object | -
50 object--traffic-sign--front | Traffic Sign (Front) | object | 7
51 object--trash-can | Trash Can | - | -
52 object--vehicle--bicycle | Bicycle | vehicle | 18
53 object--vehicle--boat | Boat | vehicle | -
54 object--vehicle--bus | Bus | vehicle | 15
55 object--vehicle--car | Car | vehicle | 13
56 object--vehicle--caravan | Caravan | vehicle | -
57 object--vehicle--motorcycle | Motorcycle | vehicle | 17
58 object--vehicle--on-rails | On Rails | vehicle | 16
59 object--vehicle--other-vehicle | Other Vehicle | vehicle | -
60 object--vehicle--trailer | Trailer | vehicle | -
61 object--vehicle--truck | Truck | vehicle | 14
62 object--vehicle--wheeled-slow | Wheeled Slow | vehicle | -
63 void--car-mount | Car Mount | - | -
64 void--ego-vehicle | Ego Vehicle | - | -
65 void--unlabeled | Unlabeled | - | -
"""

# Mapillary Vistas 2.0: id, readable name | group of the 7 | train id of the 19.
VISTAS_2 = """
0 Bird | - | -
1 Ground Animal | - | -
2 Ambiguous Barrier | construction | -
3 Concrete Block | construction | -
4 Curb | construction | 1
5 Fence | construction | 4
6 Guard Rail | construction | -
7 Barrier | construction | -
8 Road Median | construction | -
9 Road Side | construction | -
10 Lane Separator | construction | -
11 Temporary Barrier | construction | -
12 Wall | construction | 3
13 Bike Lane | flat | 0
14 Crosswalk - Plain | flat | 0
15 Curb Cut | flat | 1
16 Driveway | flat | -
17 Parking | flat | -
18 Parking Aisle | flat | -
19 Pedestrian Area | flat | 1
20 Rail Track | flat | -
21 Road | flat | 0
22 Road Shoulder | flat | -
23 Service Lane | flat | 0
24 Sidewalk | flat | 1
25 Traffic Island | flat | -
26 Bridge | construction | -
27 Building | construction | 2
28 Garage | construction | 2
29 Tunnel | construction | -
30 Person | human | 11
31 Person Group | human | 11
32 Bicyclist | human | 12
33 Motorcyclist | human | 12
34 Other Rider | human | 12
35 Lane Marking - Dashed Line | flat | 0
36 Lane Marking - Straight Line | flat | 0
37 Lane Marking - Zigzag Line | flat | 0
38 Lane Marking - Ambiguous | flat | 0
39 Lane Marking - Arrow (Left) | flat | 0
40 Lane Marking - Arrow (Other) | flat | 0
41 Lane Marking - Arrow (Right) | flat | 0
42 Lane Marking - Arrow (Split Left or Straight) | flat | 0
43 Lane Marking - Arrow (Split Right or Straight) | flat | 0
44 Lane Marking - Arrow (Straight) | flat | 0
45 Lane Marking - Crosswalk | flat | 0
46 Lane Marking - Give Way (Row) | flat | 0
47 Lane Marking - Give Way (Single) | flat | 0
48 Lane Marking - Hatched (Chevron) | flat | 0
49 Lane Marking - Hatched (Diagonal) | flat | 0
50 Lane Marking - Other | flat | 0
51 Lane Marking - Stop Line | flat | 0
52 Lane Marking - Symbol (Bicycle) | flat | 0
53 Lane Marking - Symbol (Other) | flat | 0
54 Lane Marking - Text | flat | 0
55 Lane Marking (only) - Dashed Line | flat | 0
56 Lane Marking (only) - Crosswalk | flat | 0
57 Lane Marking (only) - Other | flat | 0
58 Lane Marking (only) - Test | flat | 0
59 Mountain | - | -
60 Sand | - | -
61 Sky | sky | 10
62 Snow | - | -
63 Terrain | flat | 9
64 Vegetation | nature | 8
65 Water | - | -
66 Banner | - | -
67 Bench | - | -
68 Bike Rack | - | -
69 Catch Basin | - | -
70 CCTV Camera | - | -
71 Fire Hydrant | - | -
72 Junction Box | - | -
73 Mailbox | - | -
74 Manhole | - | -
75 Parking Meter | - | -
76 Phone Booth | - | -
77 Pothole | object | -
78 Signage - Advertisement | - | -
79 Signage - Ambiguous | - | -
80 Signage - Back | - | -
81 Signage - Information | - | -
82 Signage - Other | - | -
83 Signage - Store | - | -
84 Street Light | object | -
85 Pole | object | 5
86 Pole Group | object | -
87 Traffic Sign Frame | object | -
88 Utility Pole | object | 5
89 Traffic Cone | - | -
90 Traffic Light - General (Single) | object | 6
91 Traffic Light - Pedestrians | object | 6
92 Traffic Light - General (Upright) | object | 6
93 Traffic Light - General (Horizontal) | object | 6
94 Traffic Light - Cyclists | object | 6
95 Traffic Light - Other | object | 6
96 Traffic Sign - Ambiguous | object | 7
97 Traffic Sign (Back) | object | -
98 Traffic Sign - Direction (Back) | object | -
99 Traffic Sign - Direction (Front) | object | 7
100 Traffic Sign (Front) | object | 7
101 Traffic Sign - Parking | object | 7
102 Traffic Sign - Temporary (Back) | object | -
103 Traffic Sign - Temporary (Front) | object | 7
104 Trash Can | - | -
105 Bicycle | vehicle | 18
106 Boat | vehicle | -
107 Bus | vehicle | 15
108 Car | vehicle | 13
109 Caravan | vehicle | -
110 Motorcycle | vehicle | 17
111 On Rails | vehicle | 16
112 Other Vehicle | vehicle | -
113 Trailer | vehicle | -
114 Truck | vehicle | 14
115 Vehicle Group | vehicle | -
116 Wheeled Slow | vehicle | -
117 Water Valve | - | -
118 Car Mount | - | -
119 Dynamic | - | -
120 Ego Vehicle | - | -
121 Ground | - | -
122 Static | - | -
123 Unlabeled | - | -
"""
