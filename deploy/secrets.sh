#!/bin/sh
# Make the files of secrets that docker-compose.yml mounts; those that are there stay as they are.
#
# secrets.sh [FOLDER]    by default "secrets"
#
# Containers run as other users than you, and Compose mounts files as they are: so everybody may
# read the files, and nobody else may enter the folder.
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"

random() { head -c 24 /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_'; }
keep() {
    [ -s "$folder/$1" ] || printf %s "$2" > "$folder/$1"
    chmod 444 "$folder/$1"
}

for name in redis_client redis_worker redis_flower grafana minio; do
    keep "${name}_password" "$(random)"
done
keep flower_auth "ops:$(random)"
