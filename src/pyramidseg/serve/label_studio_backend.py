"""Placeholder."""

from fastapi import FastAPI

from pyramidseg.serve.service import Service


def add_routes(app: FastAPI, service: Service) -> None:
    """None yet."""
