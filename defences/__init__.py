"""Takes the gateway's defences away, one after another, and looks whether the tests of the attacks notice."""
