"""An endpoint that reads a body and answers nothing: what FastAPI and uvicorn cost by themselves."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response


def empty_app() -> FastAPI:
    """Return the service."""
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        await request.body()
        return Response(b"{}", media_type="application/json")

    return app
