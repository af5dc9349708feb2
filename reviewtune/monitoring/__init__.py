"""After the launch: compare new reviews with those of the promotion, choose reviews to label, retrain."""
