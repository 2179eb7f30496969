"""The walkthrough film."""
