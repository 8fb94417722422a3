"""Label maps row by row against the data sets' published tables, for every protocol."""

from __future__ import annotations

import numpy as np
import pytest

from esl_dist import labels
from esl_dist.labels import LEGAL_IDS, PROTOCOLS, id_map, protocol, vistas
from tests.label_tables import CAMVID, CITYSCAPES, SYNTHIA, TRAIN_IDS, VISTAS_1, VISTAS_2

SEVEN = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
PROTOCOL_COLUMNS = ("16", "13", "7", "7-nature", "10")


def number(text: str) -> int:
    return 255 if text == "-" else int(text)


def lines(table: str) -> list[str]:
    return table.strip().splitlines()


def train_columns() -> dict[str, dict[int, int]]:
    """Protocol -> train id of the 19 -> train id of the protocol."""
    columns: dict[str, dict[int, int]] = {"19": {}, **{name: {} for name in PROTOCOL_COLUMNS}}
    for row in map(str.split, lines(TRAIN_IDS)):
        train_id = int(row[0])
        columns["19"][train_id] = train_id
        for name, cell in zip(PROTOCOL_COLUMNS, row[5:], strict=True):
            columns[name][train_id] = number(cell)
    return {**columns, "crosscity13": columns["13"]}


COLUMNS = train_columns()


def through_19(rows: dict[int, int], name: str) -> np.ndarray:
    """The table that follows from stored id -> train id of the 19."""
    expected = np.full(256, 255, np.uint8)
    for stored, train_id in rows.items():
        expected[stored] = COLUMNS[name].get(train_id, 255)
    return expected


def assert_rows(found: np.ndarray, expected: np.ndarray) -> None:
    different = np.flatnonzero(found != expected)
    assert found.dtype == np.uint8 and found.shape == (256,)
    assert not different.size, [(int(i), int(found[i]), int(expected[i])) for i in different]


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(
    ("dataset", "table", "count"),
    [("cityscapes", CITYSCAPES, 35), ("gta5", CITYSCAPES, 35), ("crosscity", CITYSCAPES, 35), ("synthia", SYNTHIA, 23)],
)
def test_ids_of_named_tables(dataset: str, table: str, count: int, name: str) -> None:
    rows = {int(cells[0]) % 256: number(cells[-1]) for cells in map(str.split, lines(table))}
    assert len(rows) == count
    assert_rows(id_map(dataset, name), through_19(rows, name))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_cityscapes_train_ids(name: str) -> None:
    assert_rows(id_map("cityscapes_train_ids", name), through_19({i: i for i in range(19)}, name))


@pytest.mark.parametrize("name", ["10", "7", "7-nature"])
def test_camvid_ids(name: str) -> None:
    expected = np.full(256, 255, np.uint8)
    for stored, _, ten, seven in map(str.split, lines(CAMVID)):
        expected[int(stored)] = number(ten if name == "10" else seven)
    assert_rows(id_map("camvid", name), expected)


@pytest.mark.parametrize("name", ["19", "16", "13", "crosscity13"])
def test_camvid_does_not_pretend_to_tell_cityscapes_classes_apart(name: str) -> None:
    with pytest.raises(ValueError, match=r"data\.classes: CamVid.*classes=10"):
        id_map("camvid", name)


def vistas_rows(table: str) -> list[tuple[int, list[str]]]:
    """(id, its cells: names, group, train id)."""
    rows = []
    for line in lines(table):
        stored, _, rest = line.partition(" ")
        rows.append((int(stored), [cell.strip() for cell in rest.split(" | ")]))
    return rows


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(("dataset", "table", "count"), [("mapillary", VISTAS_1, 66), ("mapillary_v2", VISTAS_2, 124)])
def test_vistas_ids(dataset: str, table: str, count: int, name: str) -> None:
    rows = vistas_rows(table)
    assert [stored for stored, _ in rows] == list(range(count))
    if name in ("7", "7-nature"):
        expected = np.full(256, 255, np.uint8)
        for stored, cells in rows:
            group = "nature" if name == "7-nature" and cells[-3] == "Terrain" else cells[-2]
            expected[stored] = 255 if group == "-" else SEVEN.index(group)
    else:
        expected = through_19({stored: number(cells[-1]) for stored, cells in rows}, name)
    assert_rows(id_map(dataset, name), expected)
    readable = [cells[-3] for _, cells in rows]
    assert_rows(id_map("mapillary", name, readable), expected)
    if dataset == "mapillary":
        assert_rows(id_map("mapillary", name, [cells[0] for _, cells in rows]), expected)
    # The order of the configuration counts, not this package's.
    assert np.array_equal(id_map("mapillary", name, readable[::-1])[:count], expected[:count][::-1])


def test_vistas_names_are_the_published_ones() -> None:
    assert list(vistas.NAMES_V1) == [cells[1] for _, cells in vistas_rows(VISTAS_1)]
    assert list(vistas.NAMES_V2) == [cells[0] for _, cells in vistas_rows(VISTAS_2)]
    with pytest.raises(ValueError, match="'Flying Car'"):
        id_map("mapillary", "7", ["Sky", "Flying Car"])


def test_every_name_that_is_mapped_exists() -> None:
    """A spelling mistake in a group would silently ignore a class."""
    known = {*vistas.NAMES_V1, *vistas.NAMES_V2}
    assert set(vistas.GROUP) <= known and set(vistas.TRAIN_CLASS) <= known
    assert set(vistas.GROUP.values()) == set(SEVEN) and set(vistas.TRAIN_CLASS.values()) == set(labels.TRAIN_CLASSES)
    for members in (name for table in PROTOCOLS.values() for name in table.members):
        assert set(members) <= set(labels.TRAIN_CLASSES)


def test_the_19_classes() -> None:
    table = protocol("19")
    rows = [line.split() for line in lines(TRAIN_IDS)]
    assert table.classes == tuple(row[1].replace("_", " ") for row in rows)
    assert table.palette == tuple((int(row[2]), int(row[3]), int(row[4])) for row in rows)


@pytest.mark.parametrize(
    ("name", "count"), [("19", 19), ("16", 16), ("13", 13), ("crosscity13", 13), ("7", 7), ("7-nature", 7), ("10", 10)]
)
def test_protocols_are_whole(name: str, count: int) -> None:
    table = protocol(name)
    assert table.name == name and table.num_classes == count == len(table.classes) == len(table.palette) == len(
        table.members
    )
    assert len(set(table.classes)) == count and len(set(table.palette)) == count
    assert [table.index_of(members[0]) for members in table.members] == list(range(count))
    # Every class of the protocol is reached from Cityscapes and from Vistas: none can never be learned or scored.
    for dataset in ("cityscapes", "mapillary", "mapillary_v2", "synthia"):
        reached = set(id_map(dataset, name).tolist()) - {255}
        assert reached == set(range(count)), dataset


def test_subsets_keep_names_and_colours() -> None:
    whole = dict(zip(protocol("19").classes, protocol("19").palette, strict=True))
    for name in ("16", "13", "crosscity13"):
        assert all(whole[c] == colour for c, colour in zip(protocol(name).classes, protocol(name).palette, strict=True))
    assert set(whole) - set(protocol("16").classes) == {"terrain", "truck", "train"}
    assert set(protocol("16").classes) - set(protocol("13").classes) == {"wall", "fence", "pole"}
    assert protocol("7").classes == protocol("7-nature").classes == SEVEN
    assert protocol("10").classes == (
        "road",
        "sidewalk",
        "building",
        "fence or wall",
        "pole",
        "sign or light",
        "vegetation",
        "sky",
        "person",
        "car",
    )


def test_legal_ids() -> None:
    assert LEGAL_IDS["gta5"] == {*range(35), 255} and LEGAL_IDS["cityscapes"] == LEGAL_IDS["crosscity"] == {
        *range(34),
        255,
    }
    assert (
        LEGAL_IDS["synthia"] == set(range(23))
        and LEGAL_IDS["camvid"] == set(range(12))
        and LEGAL_IDS["cityscapes_train_ids"] == {*range(19), 255}
    )
    assert LEGAL_IDS["mapillary"] == set(range(66)) and LEGAL_IDS["mapillary_v2"] == set(range(124))
    for dataset, legal in LEGAL_IDS.items():
        outside = [i for i in range(256) if i not in legal]
        assert (id_map(dataset, "7")[outside] == 255).all()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.classes: unknown classes '15'; one of 19, 16"):
        protocol("15")
    with pytest.raises(ValueError, match="unknown label encoding 'kitti'"):
        id_map("kitti", "19")
