"""Spec -> Graph -> TrainingGraph -> QuantizedGraph -> Plan: one file per arrow, none knows another."""
