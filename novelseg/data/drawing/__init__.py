"""What the built-in scenes consist of: shapes, textures, kinds of objects, and grounds."""
