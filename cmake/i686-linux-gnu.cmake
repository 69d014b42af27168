# 32-bit x86 on a 64-bit machine that has Debian's g++-12-multilib. What is built runs here as it is.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR i686)
set(CMAKE_CXX_COMPILER g++)
# The kernel's headers serve both sizes, but only the package gcc-multilib, which excludes cross compilers, puts them where -m32 looks.
set(CMAKE_CXX_FLAGS_INIT "-m32 -idirafter /usr/include/x86_64-linux-gnu")
