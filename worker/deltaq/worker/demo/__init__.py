"""``deltaq demo``: a real system on real data, every row checked afterwards."""
