"""Numbers of the task that several packages share, each with its unit and source."""

from __future__ import annotations

# Speech (paper, appendix C.2.3: 16 kHz, FFT 800, hop 200; section 4: mel of 80 bands, 0.2 s windows).
SAMPLE_RATE = 16_000  # samples a second
MEL_HOP = 200  # samples between mel columns
MEL_BANDS = 80
MEL_COLUMNS_PER_SECOND = SAMPLE_RATE / MEL_HOP  # 80
MEL_WINDOW = 16  # columns of one L-Net window, 0.2 s

# Training video rate (paper, section 4.2: LRS2 and HDTF at 25 frames a second).
TRAIN_FPS = 25.0
SYNC_FRAMES = 5  # frames that the lip-sync expert sees at once (appendix C.2.2)

# Square sizes in pixels.
LNET_SIZE = 96  # L-Net and Wav2Lip (appendix C.2.3)
DNET_SIZE = 256  # D-Net (appendix C.1)
ENET_SIZE = 384  # E-Net (appendix C.3.1)
RESTORER_SIZE = 512  # GPEN, GFPGAN and the parsing networks
RECON_SIZE = 224  # 3DMM regressor (Deng et al. 2019)
LANDMARK_SIZE = 128  # bundled landmark network
