"""Reports for people: one HTML file with tables and pictures in it, which loads nothing."""
