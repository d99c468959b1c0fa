#!/bin/bash
# What a pod's Envoy does before it is stopped: says that it wants no more requests, lets Kubernetes
# take the pod out of its Services, and waits for the requests that run, as long as it may.
# bash alone: Envoy's image has no HTTP client.
set -u
port=${ENVOY_ADMIN_PORT:-9901}
settle_seconds=${DRAIN_SETTLE_SECONDS:-5}
max_seconds=${DRAIN_MAX_SECONDS:-45}

admin() { # admin METHOD PATH
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf '%s %s HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n' "$1" "$2" >&3
    cat <&3
    exec 3<&-
}

# /ready says 503 from now on, and answers tell clients to connect elsewhere.
admin POST /healthcheck/fail >/dev/null || exit 0 # it is gone already
sleep "$settle_seconds"
while [ "$SECONDS" -lt "$max_seconds" ]; do
    page=$(admin GET '/stats?filter=^http\.ingress\.downstream_rq_active$') || exit 0
    case "$page" in
    *"downstream_rq_active: 0"*) exit 0 ;;
    esac
    sleep 0.2
done
