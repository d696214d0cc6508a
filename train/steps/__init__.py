"""One step class per trained network: what the paper says about its training."""
