"""The harness around the measures: pairs, methods, runs, tables."""
