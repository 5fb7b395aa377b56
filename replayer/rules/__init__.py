"""What each class of cause needs to be seen before it may be said."""
