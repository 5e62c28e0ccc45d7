"""Workers in Docker containers; `provider.DockerProvider` needs the extra ``docker``."""
