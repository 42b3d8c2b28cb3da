"""What an artifact was made from: digests of files and code, and one record per job."""
