"""What several tests share: small pictures, archives, training data, stages in folders of their own, servers."""
