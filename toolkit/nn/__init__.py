"""Parts of networks and networks that several families use."""
