"""Stands up a lab on one machine: systemd hosts behind SSH, a mirror, and the inventory's generated variables.

Nothing in `roles/` knows that a lab exists; the only things it shares with a datacentre are the inventory's variables.
"""
