"""What a person knows of a registration and says: where images count, landmarks, a transform to begin with."""
