"""Networks over tokens."""
