"""``python -m videoretalking`` is the console command ``videoretalking``."""

from videoretalking.cli import main

if __name__ == "__main__":
    main()
