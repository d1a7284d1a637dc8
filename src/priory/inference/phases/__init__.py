"""What a pair draws and scores: its programs run, recorded, and read as joint samples."""
