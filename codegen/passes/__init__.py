"""Spec -> Graph -> TrainingGraph -> QuantizedGraph -> Plan: a file per arrow."""
