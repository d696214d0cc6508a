"""Video and audio files: streamed frames with their timestamps, waveforms, mel windows."""
