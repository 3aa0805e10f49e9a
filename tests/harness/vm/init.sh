#!/bin/sh
# First program of the virtual machine: loads the modules, sets the network up and runs the scripts that come in by TCP.

export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run

while read -r module; do
  # Some serve only hardware that this machine does not have.
  insmod "/modules/$module" 2>/dev/null
done </modules/order
mount -t configfs config /sys/kernel/config

ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip -6 address add fec0::15/64 dev eth0 nodad
ip route add default via 10.0.2.2

# What one connection brings: the length of a script in bytes, on a line; the script. Output and exit status go back.
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
