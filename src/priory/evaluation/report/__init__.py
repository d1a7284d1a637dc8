"""Tables, pictures and pages of what an evaluation found."""
