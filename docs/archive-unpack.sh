#!/bin/bash
# Writes the entries of an archive's segment as one tar stream, encrypted records too, with stock tools only:
#   docs/archive-unpack.sh IDENTITY_FILE SEGMENT | tar -x --warning=no-unknown-keyword -C DIR
# docs/archive-format.md says what it cuts out. It stops at the first damage.
set -euo pipefail
identity=$1 segment=$2
number() { od -An --endian=little "-tu$2" -j "$1" -N "$2" "$segment"; }
cut_out() { dd if="$segment" iflag=skip_bytes,count_bytes skip="$1" count="$2" bs=64K status=none; }
size=$(stat -c %s "$segment") at=0
while [ "$at" -lt "$size" ]; do
  version=$(($(number $((at + 14)) 2))) payload=$(($(number $((at + 24)) 8)))
  case $version in
    1) cut_out $((at + 64)) "$payload" | zstd -dcq ;;
    2) cut_out $((at + 72)) $((payload - 8)) | age -d -i "$identity" | zstd -dcq ;;
    *) echo "$segment: no record of a known version at byte $at" >&2; exit 1 ;;
  esac
  at=$((at + 64 + payload))
done
