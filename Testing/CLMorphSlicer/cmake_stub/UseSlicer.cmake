# Copies a module's files into the build tree and installs them from there, as Slicer's macro of this name does.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS OR NOT MODULE_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: not understood: ${MODULE_UNPARSED_ARGUMENTS}")
  endif()
  set(built ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
  set(installed ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR})
  if(MODULE_WITH_SUBDIR)
    get_filename_component(subfolder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    string(APPEND built /${subfolder})
    string(APPEND installed /${subfolder})
  endif()
  foreach(file IN LISTS MODULE_SCRIPTS MODULE_RESOURCES)
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "${MODULE_NAME}: there is no file ${file}")
    endif()
    get_filename_component(folder ${file} DIRECTORY)
    list(APPEND folders "./${folder}")
    list(APPEND files_./${folder} ${file})
    list(APPEND copies ${built}/${file})
    install(FILES ${built}/${file} DESTINATION ${installed}/${folder})
  endforeach()
  list(REMOVE_DUPLICATES folders)
  foreach(folder IN LISTS folders)  # one command for each, where Slicer has one for each file
    set(from ${files_${folder}})
    set(to ${files_${folder}})
    list(TRANSFORM from PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
    list(TRANSFORM to PREPEND ${built}/)
    add_custom_command(
      OUTPUT ${to}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${built}/${folder}
      COMMAND ${CMAKE_COMMAND} -E copy ${from} ${built}/${folder}
      DEPENDS ${from}
      )
  endforeach()
  add_custom_target(${MODULE_NAME} ALL DEPENDS ${copies})
endfunction()
