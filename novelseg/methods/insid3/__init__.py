"""INSID3: clusters of the query, chosen by their similarity to the supports and to the best of them."""
