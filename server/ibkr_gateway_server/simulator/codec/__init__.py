"""Messages: server messages encoded exactly as a live gateway spells them, client requests parsed leniently."""
