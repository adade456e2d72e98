"""What a trained model is to its user: tokenizers and priors on uint8 pictures, and how they are loaded."""
