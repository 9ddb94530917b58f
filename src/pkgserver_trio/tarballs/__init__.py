"""What a tarball is: gzip, tar and the git tree hash of its content, computed while it arrives or from disk."""
