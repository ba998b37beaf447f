# Writes what Slicer would tell its catalogue, for the test to read.
foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if(NOT EXTENSION_${name})
    message(FATAL_ERROR "EXTENSION_${name} is not set")
  endif()
  file(APPEND ${CMAKE_BINARY_DIR}/description.txt "${name} ${EXTENSION_${name}}\n")
endforeach()
file(APPEND ${CMAKE_BINARY_DIR}/description.txt "NAME ${PROJECT_NAME}\n")
