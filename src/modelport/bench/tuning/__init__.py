"""What `modelport tune` is made of: the settings, the model of a server, the search, and the candidates it measures."""
