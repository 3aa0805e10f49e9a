#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init program of the VM: loads the modules, configures the network and runs the scripts that it receives over TCP.

export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run

while read -r module; do
  # Some modules need hardware that this VM does not have.
  insmod "/modules/$module" 2>/dev/null
done </modules/order
mount -t configfs config /sys/kernel/config

ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip -6 address add fec0::15/64 dev eth0 nodad
ip route add default via 10.0.2.2

# A connection sends the length of a script in bytes, on a line, and the script. Output and exit status are returned.
cat >/bin/run-script <<'END'
#!/bin/sh
read -r length
script=/tmp/script.$$
head -c "$length" >"$script"
setsid sh "$script" </dev/null 2>&1
printf '\nexit status %d\n' $?
rm -f "$script"
END
chmod +x /bin/run-script

echo "guest: ready"
while true; do
  nc -ll -p 7 -e /bin/run-script
done
