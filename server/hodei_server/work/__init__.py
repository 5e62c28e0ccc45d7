"""What is done about jobs: sessions of workers, the fleet they belong to, and how attempts end."""
