"""How Lightning trains, stops, resumes, logs and evaluates a method."""
