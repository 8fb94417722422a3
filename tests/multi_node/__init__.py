"""Several hosts on one machine: a network namespace is a host, a veth pair its cable, a bridge the switch. Root on
Linux only.
"""
