"""Pictures of a study: each is one or more panels that fit a narrow screen."""
