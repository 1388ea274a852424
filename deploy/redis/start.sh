#!/bin/sh
# Start Redis with redis.conf and the accounts of users.acl, whose passwords are in files.
#
# start.sh [MORE OPTIONS OF redis-server]
#   SECRETS  folder of redis_client_password, redis_worker_password and redis_flower_password;
#            /run/secrets when not set
set -eu
here=$(dirname "$0")

# Redis takes a digest in place of a password; what is no word in one needs no quotes.
digest() {
    password=$(cat "${SECRETS:-/run/secrets}/redis_$1_password")
    [ -n "$password" ] || { echo "the password of deltaq-$1 is empty" >&2; exit 1; }
    printf %s "$password" | sha256sum | cut -c 1-64
}

client=$(digest client)
worker=$(digest worker)
flower=$(digest flower)
users=$(mktemp)
sed -e "s/>CLIENT_PASSWORD/#$client/" -e "s/>WORKER_PASSWORD/#$worker/" \
    -e "s/>FLOWER_PASSWORD/#$flower/" "$here/users.acl" > "$users"
exec redis-server "$here/redis.conf" --aclfile "$users" "$@"
