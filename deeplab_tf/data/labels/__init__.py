"""Labels in files of the user: pairing them with images, colors as classes, and what is wrong."""
