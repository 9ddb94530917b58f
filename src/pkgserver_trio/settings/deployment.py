"""Names in `.env` that are the deployment's (`compose/`): the server knows them, and does nothing about them."""

from __future__ import annotations

from typing import Final

#: In the order of `.env.example`, the first part of which explains them; `compose/check-env` checks their values.
DEPLOYMENT_NAMES: Final = (
    "PKG_SERVER_REGION",
    "PKG_SERVER_FQDN",
    "CERTBOT_EMAIL",
    "CERTBOT_STAGING",
    "DISABLE_TLS",
    "TLS_CERTIFICATES_DIR",
    "KEEP_HTTP_8000",
    "DISABLE_INTERNAL_DNS",
    "DISABLE_INTERNAL_DNS_IPV6",
    "STORAGE_SERVERS",
    "PKG_SERVER_FLAVORLESS",
    "UPDATE_PERIOD",
    "ADMIN_TOKEN_SHA256",
    "S3_MIRROR_FQDN",
    "S3_MIRROR_BUCKET_LIST",
    "S3_MIRROR_MAX_SIZE",
    "S3_MIRROR_MIN_FREE",
    "S3_MIRROR_POINTERS",
    "S3_MIRROR_STALE_WHILE_REVALIDATE_SECONDS",
    "S3_MIRROR_STALE_IF_ERROR_SECONDS",
    "METRICS_ALLOW",
    "FRONTEND_PROXIES",
    "LIMIT_REQUESTS_PER_SECOND",
    "LIMIT_CONNECTIONS",
    "LIMIT_EXEMPT",
    "PKGSERVER_IMAGE",
    "IMAGE_POLL_SECONDS",
    "SERVER_MEMORY",
    "SERVER_CPUS",
    "STATE_DIR",
    "STORE1_DIR",
    "STORE2_DIR",
    "LOGS_DIR",
    "INSIDE_SUBNET",
    "COMPOSE_PROFILES",
    "GRAFANA_ADMIN_PASSWORD",
)
