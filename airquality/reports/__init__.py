"""Pages made of closed windows."""
