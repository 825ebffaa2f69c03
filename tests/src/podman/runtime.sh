#!/bin/sh
# runc, which puts containers where kubelet's runtimes do: into the control group of a pod with a uid. Podman's pods have
# none; the beginning of their id stands for it.
previous= bundle=
for word; do
    [ "$previous" = --bundle ] && bundle=$word
    previous=$word
done
if [ -n "$bundle" ]; then
    pod='([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})[0-9a-f]*'
    group="\"cgroupsPath\": ?\"[^\"]*/$pod/[^\"]*([0-9a-f]{64})\""
    sed -E -i "s#$group#\"cgroupsPath\":\"/kubepods/burstable/pod\\1-\\2-\\3-\\4-\\5/\\6\"#" "$bundle/config.json"
fi
exec runc "$@"
