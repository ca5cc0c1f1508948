# Makes sure that tools are there; sourced by the other scripts. Installs Debian packages where it
# can, else says what to install and ends.

# need COMMAND PACKAGE: the command, from that package.
need() {
    command -v "$1" >/dev/null && return
    install_package "$2"
}

install_package() {
    if ! command -v apt-get >/dev/null; then
        echo "Please install the equivalent of the Debian package '$1', then run this again." >&2
        exit 1
    fi
    local sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "Please install '$1' as root (apt-get install $1), then run this again." >&2
            exit 1
        }
        sudo=sudo
    fi
    echo "installing $1"
    if [ -z "${packages_updated:-}" ]; then
        $sudo apt-get update -qq
        packages_updated=1
    fi
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null
}

# What the build needs: Pingora compiles OpenSSL and zlib-ng from source.
need_to_build() {
    if ! command -v cargo >/dev/null; then
        echo "Please install Rust from https://rustup.rs, then run this again." >&2
        exit 1
    fi
    need cc build-essential
    need make make
    need perl perl
    need cmake cmake
}

need_python_venv() {
    python3 -c 'import venv, ensurepip' 2>/dev/null || install_package python3-venv
}
