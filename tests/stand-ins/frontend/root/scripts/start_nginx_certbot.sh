#!/bin/bash
# nginx, and certbot beside it for every `ssl_certificate_key /etc/letsencrypt/live/NAME/privkey.pem` of conf.d.
set -u

keys_in() {
    sed -nE 's|^\s*ssl_certificate_key\s+([^;]+);.*|\1|p' "$1"
}

# A server whose key is not there would keep nginx from starting.
enable_what_has_its_keys() {
    local conf key ready
    for conf in /etc/nginx/conf.d/*.conf*; do
        ready=true
        for key in $(keys_in "$conf"); do
            [[ -f $key ]] || ready=false
        done
        case $ready-$conf in
        true-*.nokey) mv "$conf" "${conf%.nokey}" ;;
        false-*.conf) mv "$conf" "$conf.nokey" ;;
        esac
    done
}

get_certificates() {
    local conf key name domains server
    server=https://acme-v02.api.letsencrypt.org/directory
    [[ ${STAGING:-0} != 1 ]] || server=https://acme-staging-v02.api.letsencrypt.org/directory
    local authority=(--server "$server")
    [[ ! -f /etc/letsencrypt/acme-directory ]] ||
        authority=(--server "$(</etc/letsencrypt/acme-directory)" --no-verify-ssl)
    for conf in /etc/nginx/conf.d/*.conf*; do
        for key in $(keys_in "$conf"); do
            name=$(basename "$(dirname "$key")")
            mapfile -t domains < <(sed -nE 's|^\s*server_name\s+([^;]+);.*|\1|p' "$conf" | tr ' ' '\n' | sed 's/^/--domain=/')
            certbot certonly --agree-tos --keep -n --text --preferred-challenges http-01 --authenticator webroot \
                --webroot-path=/var/www/letsencrypt --email "$CERTBOT_EMAIL" --key-type rsa --rsa-key-size 2048 \
                --cert-name "$name" "${authority[@]}" "${domains[@]}"
        done
    done
    enable_what_has_its_keys
    nginx -s reload
}

enable_what_has_its_keys
nginx -g 'daemon off;' &
nginx=$!
while true; do
    get_certificates
    sleep 8d
done &
renewal=$!
trap 'kill $nginx $renewal' TERM INT QUIT
wait -n $nginx $renewal
kill $nginx $renewal 2>/dev/null
wait $nginx
