"""Every network of the paper and around it: tensors in, tensors out, one network a file."""
