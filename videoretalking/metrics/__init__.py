"""The paper's metrics behind one interface: update, compute, reset."""
