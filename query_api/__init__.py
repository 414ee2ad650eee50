"""Answers questions about the platform: GraphQL, REST v2 analytics and the console."""
