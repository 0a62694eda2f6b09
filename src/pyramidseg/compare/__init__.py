"""Encoders against each other under one budget: error by epoch, accuracy against cost, what is real."""
