#!/bin/sh
# Installs the clients, the broker and the tools of the black-box tests that are not there yet: mosquitto's, libcoap's, faketime, a browser, and from Python's and Node's packages
# paho, mqtt-sn-12, aiocoap, cbor2, stomp.py, coap, MQTT.js, STOMP.js, SockJS' client and what drives the browser, below the folder that is given.
set -eu
dir=$1
mkdir -p "$dir"
# Test programs may run at the same time.
exec 9>"$dir/lock"
flock 9

packages=""
command -v mosquitto_pub >/dev/null || packages="$packages mosquitto-clients"
[ -x /usr/sbin/mosquitto ] || packages="$packages mosquitto"
command -v coap-client-notls >/dev/null || packages="$packages libcoap3-bin"
command -v faketime >/dev/null || packages="$packages faketime"
command -v npm >/dev/null || packages="$packages nodejs npm"
command -v chromium >/dev/null || packages="$packages chromium"
python3 -c 'import venv, ensurepip' 2>/dev/null || packages="$packages python3-venv"
if [ -n "$packages" ]; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    $sudo apt-get update -q
    # shellcheck disable=SC2086 # several words are meant
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $packages
fi

[ -x "$dir/venv/bin/python" ] || python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -c 'import paho.mqtt' 2>/dev/null || "$dir/venv/bin/pip" install -q paho-mqtt==2.1.0
"$dir/venv/bin/python" -c 'import mqttsn12' 2>/dev/null || "$dir/venv/bin/pip" install -q mqtt-sn-12==1.0.9
"$dir/venv/bin/python" -c 'import aiocoap' 2>/dev/null || "$dir/venv/bin/pip" install -q aiocoap==0.4.17
"$dir/venv/bin/python" -c 'import cbor2' 2>/dev/null || "$dir/venv/bin/pip" install -q cbor2==6.3.0
"$dir/venv/bin/python" -c 'import stomp, websocket' 2>/dev/null || "$dir/venv/bin/pip" install -q stomp.py==9.0.0 websocket-client==1.9.0
for package in coap@1 mqtt@5 @stomp/stompjs@7 sockjs-client@1 ws@8 playwright-core@1; do
    [ -d "$dir/node/node_modules/${package%@*}" ] || wanted="${wanted:-} $package"
done
# shellcheck disable=SC2086 # several words are meant
[ -z "${wanted:-}" ] || npm install --prefix "$dir/node" --no-audit --no-fund --loglevel=error $wanted

# The test of the web UI has a lock of its own packages.
mkdir -p "$dir/ui"
for file in package.json package-lock.json .npmrc; do
    cmp -s "$(dirname "$0")/ui/$file" "$dir/ui/$file" || { cp "$(dirname "$0")/ui/$file" "$dir/ui/$file"; rm -rf "$dir/ui/node_modules"; }
done
[ -d "$dir/ui/node_modules" ] || npm ci --prefix "$dir/ui" --loglevel=error
